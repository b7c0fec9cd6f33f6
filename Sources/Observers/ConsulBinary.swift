internal import Artifacts
internal import Base
package import Consul
internal import Model

extension MachineObserver {
  /// A Consul that this machine can run.
  package struct Binary: Sendable {
    /// Path of Consul, or of the Docker client that runs it.
    package let path: String
    package let version: ConsulVersion
  }

  /// `consul version` takes some 50 ms; at boot, a machine under load may need much longer.
  private static let versionTimeout = Duration.seconds(20)
  /// The first use of an image pulls it.
  private static let pullTimeout = Duration.seconds(300)
  /// Directories to search after those of PATH: user-data may run with an almost empty PATH.
  private static let usualDirectories = ["/usr/local/bin", "/usr/bin", "/opt/consul/bin"]

  /// The path of the agent's binary in a unit that is written before a run, whose PATH may be another; Consul may be
  /// installed later.
  package var expectedConsulPath: String {
    let paths = Self.usualDirectories.map { "\($0)/consul" }
    return settings.consulPath ?? paths.first(where: context.files.isExecutable) ?? paths[0]
  }

  /// The Docker client; nil if there is none that this process can find.
  package var dockerPath: String? {
    do { return try find("docker", title: "Docker", hint: "") } catch { return nil }
  }

  /// Finds Consul and determines its version.
  /// - Throws: `Failure` with status 15, or `CancellationError`.
  package func binary() async throws -> Binary {
    guard let image = settings.image else {
      let path = try consulPath()
      return Binary(
        path: path,
        version: try await version(
          of: path, Command(path, ["version"]), timeout: Self.versionTimeout,
          hint: "set the path of the Consul binary with --consul"))
    }
    let docker = try find("docker", title: "Docker", hint: "install Docker, or set another --start")
    return Binary(
      path: docker,
      version: try await version(
        of: "image \(image)", DockerContainer.version(docker: docker, image: image), timeout: Self.pullTimeout,
        hint: "check --image, and that the Docker engine is running"))
  }

  private func version(
    of subject: String, _ command: Command, timeout: Duration, hint: String
  ) async throws -> ConsulVersion {
    do {
      let result = try await context.launcher.run(command, timeout: timeout)
      if let version = ConsulVersion(output: result.output) { return version }
      throw Failure(
        .agentNotStarted, "cannot determine the version of Consul: \(subject) does not print it",
        details: ["`\(command.text)`: \(result.end.explanation)"]
          + result.output.split(whereSeparator: \.isNewline).prefix(5).map(String.init), hint: hint)
    } catch let error as LaunchError {
      throw Failure(
        .agentNotStarted, "cannot run \(command.program)", details: [error.explanation],
        hint: "check that it is a program for this machine"
          + (settings.image == nil ? ", or set another with --consul" : ""))
    }
  }

  private func consulPath() throws -> String {
    guard let path = settings.consulPath else {
      return try find("consul", title: "Consul", hint: "install Consul, or set its path with --consul")
    }
    let correct = "correct --consul (CONSUL_BOOTSTRAP_CONSUL)"
    let status: FileStatus?
    do { status = try context.files.status(path) } catch {
      throw Failure(
        .agentNotStarted, "cannot examine \(path)", details: [error.explained],
        hint: "check the permissions of its directories, or \(correct)")
    }
    guard status?.kind == .file else {
      throw Failure(.agentNotStarted, "there is no Consul at \(path)", hint: "install Consul, or \(correct)")
    }
    guard context.files.isExecutable(path) else { throw Self.notExecutable(path) }
    return path
  }

  private func find(_ name: String, title: String, hint: String) throws -> String {
    let path = (context.environment["PATH"] ?? "").split(separator: ":").map(String.init)
    let directories = path + Self.usualDirectories.filter { !path.contains($0) }
    var found: [String] = [], errors: [String] = []
    for candidate in directories.map({ "\($0)/\(name)" }) {
      do {
        if try context.files.status(candidate)?.kind == .file { found.append(candidate) }
      } catch {
        errors.append(error.explained)
      }
    }
    if let executable = found.first(where: context.files.isExecutable) { return executable }
    if let first = found.first { throw Self.notExecutable(first) }
    throw Failure(
      .agentNotStarted, "\(title) is not installed",
      details: ["no \(name) in \(directories.joined(separator: ", "))"] + errors, hint: hint)
  }

  private static func notExecutable(_ path: String) -> Failure {
    Failure(.agentNotStarted, "\(path) is not executable", hint: "run chmod +x \(path)")
  }
}
