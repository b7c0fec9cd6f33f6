# node_name = "a"
// node_name = "b"
/* node_name = "c"
*/ datacenter = "x" # rest
