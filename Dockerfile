# One image for worker, beat, Flower and manage.py; the command chooses:
#   docker run IMAGE celery -A tasks worker
#   docker run IMAGE manage.py status
FROM python:3.13-slim

ENV PATH=/app:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app

COPY requirements.txt constraints.txt ./
RUN pip install --no-cache-dir -r requirements.txt -c constraints.txt

COPY celeryconfig.py manage.py ./
COPY index_templates index_templates
COPY tasks tasks
COPY uaharvest uaharvest

# Nobody in particular: it owns no file, so that what is broken into cannot change the code.
USER 10001:10001
CMD ["manage.py", "--help"]
