"""`python -m monitoring`: writes the dashboards from their descriptions."""

from monitoring import dashboards, grafana

if __name__ == "__main__":
    grafana.FILE.write_text(grafana.text())
    dashboards.FILE.write_text(dashboards.text())
