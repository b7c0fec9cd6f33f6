/// The reason that was logged last for something that is retried for ever: each reason is logged once, and again after
/// a success or another reason.
package struct ReportedReason: Sendable {
  private var reason: String?

  package init() {}

  /// - Parameter reason: of this attempt; nil for a success.
  /// - Returns: whether to log it.
  package mutating func isNew(_ reason: String?) -> Bool {
    defer { self.reason = reason }
    return reason != nil && reason != self.reason
  }
}
