node_meta {
  a = <<E
  x
 y
E
  b = <<-E
     x
      y
    E
  c = <<-E
 x
   E
}
