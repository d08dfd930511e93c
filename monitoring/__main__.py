"""`python -m monitoring`: writes the dashboards from their descriptions; reads REPORT_MIN_GROUP."""

import sys

from uaharvest.errors import BadInputError

if __name__ == "__main__":
    try:
        from monitoring import dashboards, grafana
    except BadInputError as error:
        sys.exit(str(error))
    grafana.FILE.write_text(grafana.text())
    dashboards.FILE.write_text(dashboards.text())
