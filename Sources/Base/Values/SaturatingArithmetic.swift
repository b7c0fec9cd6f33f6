/// Arithmetic on numbers from outside: beyond the largest or smallest number the result is that number.
extension FixedWidthInteger {
  package func saturatingAdding(_ other: Self) -> Self {
    let (sum, overflows) = addingReportingOverflow(other)
    return overflows ? (other < 0 ? .min : .max) : sum
  }

  package func saturatingSubtracting(_ other: Self) -> Self {
    let (difference, overflows) = subtractingReportingOverflow(other)
    return overflows ? (self < other ? .min : .max) : difference
  }

  package func saturatingMultiplied(by factor: Self) -> Self {
    let (product, overflows) = multipliedReportingOverflow(by: factor)
    return overflows ? ((self < 0) == (factor < 0) ? .max : .min) : product
  }
}
