/// The activities of a stream that are parked. Parked: it failed with an error that is not retryable, is attempted
/// rarely, and stays parked until it succeeds again, whatever the others do.
struct ParkedActivities {
  /// In the order in which `status` shows their errors.
  enum Activity: CaseIterable {
    case sending, reading, checkpointing
  }

  private var reasons: [Activity: (text: String, stable: String)] = [:]

  var isEmpty: Bool { reasons.isEmpty }

  /// Of the first activity that is parked.
  var reason: String? { Activity.allCases.lazy.compactMap { reasons[$0]?.text }.first }

  /// - Parameter stable: the reason without what differs at each attempt, such as a request ID. While it stays, so does
  ///   the text of the first attempt.
  /// - Returns: whether the reason is new, and has to be logged.
  mutating func park(_ activity: Activity, _ reason: String, stable: String) -> Bool {
    guard reasons[activity]?.stable != stable else { return false }
    reasons[activity] = (reason, stable)
    return true
  }

  /// The activity has succeeded.
  /// - Returns: whether it was the last one that was parked.
  mutating func resume(_ activity: Activity) -> Bool {
    reasons.removeValue(forKey: activity) != nil && reasons.isEmpty
  }

  func without(_ activity: Activity) -> ParkedActivities {
    var others = self
    others.reasons[activity] = nil
    return others
  }
}
