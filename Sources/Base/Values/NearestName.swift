/// Finds what a mistyped name probably meant.
package func nearestName(to typed: String, among names: some Sequence<String>) -> String? {
  let best = names.map { (name: $0, distance: editDistance(typed, $0)) }.min { $0.distance < $1.distance }
  guard let best, best.distance <= max(2, typed.count / 3) else { return nil }
  return best.name
}

/// Levenshtein's distance: the fewest insertions, deletions and substitutions.
private func editDistance(_ left: String, _ right: String) -> Int {
  let left = Array(left.utf8), right = Array(right.utf8)
  var row = Array(0...right.count)
  for (i, a) in left.enumerated() {
    var diagonal = row[0]
    row[0] = i + 1
    for (j, b) in right.enumerated() {
      let substitution = diagonal + (a == b ? 0 : 1)
      diagonal = row[j + 1]
      row[j + 1] = min(substitution, diagonal + 1, row[j] + 1)
    }
  }
  return row[right.count]
}
