internal import CSpawn

/// Both ends of a new pipe, closed in children.
func makePipe(nonBlocking: Bool = false) -> (read: Int32, write: Int32) {
  var ends: [Int32] = [-1, -1]
  precondition(cb_pipe(&ends, nonBlocking) == 0, "no file descriptors left")
  return (ends[0], ends[1])
}
