package import AWS
package import Base
package import Observers

/// Every seam that a command uses. `Composition` fills it with the real ones, tests with fakes.
package struct CommandDependencies: Sendable {
  package let context: RuntimeContext
  package let planner: Planner
  package let metadata: MetadataClient
  package let credentials: CredentialCache
  package let output: any TextOutput
  package let errorOutput: any ErrorOutput
  /// This program's log as a file, if it is forwarded.
  package let ownLog: (any LogSink)?
  package let locks: any LockStore
  package let signals: any SignalSource
  /// Ends the process at once, without waiting for any task.
  package let terminate: @Sendable (Int32) -> Void
  package let version: String

  package init(
    context: RuntimeContext, planner: Planner, metadata: MetadataClient, credentials: CredentialCache,
    output: any TextOutput, errorOutput: any ErrorOutput, ownLog: (any LogSink)?, locks: any LockStore,
    signals: any SignalSource, terminate: @escaping @Sendable (Int32) -> Void, version: String
  ) {
    self.context = context
    self.planner = planner
    self.metadata = metadata
    self.credentials = credentials
    self.output = output
    self.errorOutput = errorOutput
    self.ownLog = ownLog
    self.locks = locks
    self.signals = signals
    self.terminate = terminate
    self.version = version
  }
}
