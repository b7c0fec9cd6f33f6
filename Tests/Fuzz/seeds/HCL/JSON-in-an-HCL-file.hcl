 
{"node_name": "j", "ports": {"dns": 7777}}