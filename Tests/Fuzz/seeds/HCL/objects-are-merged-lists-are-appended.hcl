node_meta { b = "3" c = "4" }
retry_join = ["10.255.0.2"]