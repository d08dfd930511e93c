"""Small real servers: Valkey, SQS and S3, databases, Elasticsearch, OpenSearch; and a proxy before one of them."""
