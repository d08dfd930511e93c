"""Small real servers for the demo, tests and benchmarks: Valkey, SQS and S3, databases, Elasticsearch, OpenSearch."""
