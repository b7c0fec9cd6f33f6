retry_join = ["10.255.0.1",]
retry_join = ["10.255.0.2"]