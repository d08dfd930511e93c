# One image for worker, beat, Flower and manage.py; the command chooses:
#   docker run IMAGE celery -A tasks worker
#   docker run IMAGE manage.py status
FROM python:3.13-slim

LABEL org.opencontainers.image.title=uaharvest \
      org.opencontainers.image.version=0.1.0 \
      org.opencontainers.image.licenses=Apache-2.0
ENV PATH=/app:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1
WORKDIR /app

COPY requirements.txt constraints.txt ./
RUN pip install --no-cache-dir -r requirements.txt -c constraints.txt

COPY LICENSE celeryconfig.py manage.py ./
COPY index_templates index_templates
COPY tasks tasks
COPY uaharvest uaharvest
# Nobody may write here later, and without its bytecode each command would compile half of the code again.
RUN python -m compileall -q celeryconfig.py tasks uaharvest

# Nobody in particular: it owns no file, so that what is broken into cannot change the code. Only /data is its own; a
# volume that is mounted there belongs to it too.
RUN install --directory --owner=10001 --group=10001 /data
WORKDIR /data
USER 10001:10001
CMD ["manage.py", "--help"]
