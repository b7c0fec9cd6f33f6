/// The lines of two texts, as a diff shows them: `-` gone, `+` new, blank unchanged.
package func lineDiff(_ old: String, _ new: String) -> [String] {
  let old = old.split(separator: "\n", omittingEmptySubsequences: false).dropLastEmpty
  let new = new.split(separator: "\n", omittingEmptySubsequences: false).dropLastEmpty
  let changes = new.difference(from: old)
  var removed: Set<Int> = [], inserted: Set<Int> = []
  for change in changes {
    switch change {
    case .remove(let offset, _, _): removed.insert(offset)
    case .insert(let offset, _, _): inserted.insert(offset)
    }
  }
  var lines: [String] = []
  var i = 0, j = 0
  while i < old.count || j < new.count {
    if i < old.count, removed.contains(i) {
      lines.append("- " + old[i])
      i += 1
    } else if j < new.count, inserted.contains(j) {
      lines.append("+ " + new[j])
      j += 1
    } else {
      lines.append("  " + new[j])
      i += 1
      j += 1
    }
  }
  return lines
}

extension [Substring] {
  /// A newline at the end makes no further line.
  fileprivate var dropLastEmpty: [Substring] { last == "" ? dropLast() : self }
}
