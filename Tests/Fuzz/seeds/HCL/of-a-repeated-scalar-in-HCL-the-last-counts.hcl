node_name = "a"
node_name = "b"
server = true server = false