package import Base

/// How a running agent reads new settings.
package enum ReloadMethod: Sendable, Equatable {
  case command(Command)
  /// `PUT /v1/agent/reload`, for a container: after any `docker kill`, SIGHUP included, Docker 20.10 counts the container
  /// as stopped by hand and does not restart it after a crash.
  case api(agentAddress: String, token: Secret?)
}
