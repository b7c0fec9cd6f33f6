extension RuntimeContext {
  /// Bounds work that has no timeout of its own, or a longer one: it is cancelled.
  /// - Returns: nil if it takes longer.
  package func within<Value: Sendable>(
    _ time: Duration, _ work: @escaping @Sendable () async throws -> Value
  ) async throws -> Value? {
    try await withThrowingTaskGroup(of: Value?.self) { group in
      group.addTask { try await work() }
      group.addTask { [clock] in
        try await clock.sleep(for: time)
        return nil
      }
      defer { group.cancelAll() }
      return try await group.next() ?? nil
    }
  }
}
