"""What a site needs to watch the harvest: files for Prometheus, Grafana, Kibana and OpenSearch Dashboards.

`alerts.yml` and `prometheus.yml` are written by hand. `python -m monitoring` makes the others.
"""
