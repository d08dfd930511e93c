"""Documents in Elasticsearch 8 and 9 and in OpenSearch 2.19 and 3, over one transport and without either's client.

`connection` sends requests, `products` has what the two do differently, `refusals` turns their answers into our errors,
`bulk` writes, and `store` is the document store made of these.
"""
