/// Runs clean-up to its end, which it bounds by itself: the cancellation of the caller does not reach it.
func uncancelled(_ body: @escaping @Sendable () async -> Void) async {
  await Task { await body() }.value
}
