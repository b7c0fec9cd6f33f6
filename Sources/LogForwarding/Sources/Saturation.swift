extension Int64 {
  /// The sum; `Int64.max` or `Int64.min` where it would overflow. For sums of numbers that come from outside.
  func saturatingAdding(_ other: Int64) -> Int64 {
    let (sum, overflows) = addingReportingOverflow(other)
    return overflows ? (other < 0 ? .min : .max) : sum
  }
}
