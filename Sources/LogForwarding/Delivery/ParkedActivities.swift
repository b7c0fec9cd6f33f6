/// The activities of a stream that are parked. Parked: it failed with an error that is not retryable, is attempted
/// rarely, and stays parked until it succeeds again, whatever the others do.
struct ParkedActivities {
  /// In the order in which `status` shows their errors.
  enum Activity: CaseIterable {
    case sending, reading, checkpointing
  }

  private var reasons: [Activity: String] = [:]

  var isEmpty: Bool { reasons.isEmpty }

  /// Of the first activity that is parked.
  var reason: String? { Activity.allCases.lazy.compactMap { reasons[$0] }.first }

  /// - Returns: whether the reason is new, and has to be logged.
  mutating func park(_ activity: Activity, _ reason: String) -> Bool {
    defer { reasons[activity] = reason }
    return reasons[activity] != reason
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
