package import Base
package import Model

extension DockerContainer {
  /// A graceful leave drains for 5 s and waits up to 5 s for raft.
  private static let stopTimeout = "60"

  private init(name: String, image: String, docker: String, options: [String], arguments: [String]) {
    let options = ["--detach", "--name", name, "--network", "host"] + options
    let fingerprint = Command("run", options + [image] + arguments).text
    self.init(
      name: name, image: image, docker: docker,
      run: Command(docker, ["run"] + options + ["--label", "\(Self.label)=\(fingerprint)", image] + arguments),
      fingerprint: fingerprint)
  }

  /// The container of the agent.
  /// - `--restart on-failure` restarts the agent after a crash, but not after a leave.
  /// - The agent runs as its user on the host, so that both sides can read each other's files. It runs as root if it
  ///   binds low ports, which Docker allows no other user in the host's network.
  /// - Parameter files: files outside the configuration directory that the agent reads.
  package static func agent(
    docker: String, image: String, settings: Settings, owner: FileOwner?, files: [String], bindsLowPorts: Bool
  ) -> Self {
    var options = [
      "--restart", "on-failure", "--stop-timeout", stopTimeout, "--volume",
      "\(settings.configDirectory):\(settings.configDirectory):ro",
      "--volume", "\(settings.dataDirectory):\(settings.dataDirectory)",
    ]
    for file in files { options += ["--volume", "\(file):\(file):ro"] }
    if let owner, !bindsLowPorts { options += ["--user", "\(owner.user):\(owner.group)"] }
    return Self(
      name: agentName, image: image, docker: docker, options: options + ["--entrypoint", "consul"],
      arguments: ["agent", "-config-dir=\(settings.configDirectory)"])
  }

  /// The container of registrator, which registers the machine's other containers with the agent.
  package static func registrator(docker: String, image: String, agentAddress: String) -> Self {
    Self(
      name: registratorName, image: image, docker: docker,
      options: ["--restart", "always", "--volume", "/var/run/docker.sock:/tmp/docker.sock"],
      arguments: ["consul://\(agentAddress)"])
  }

  /// The command that prints the version of the image's Consul.
  package static func version(docker: String, image: String) -> Command {
    Command(docker, ["run", "--rm", "--network", "none", "--entrypoint", "consul", image, "version"])
  }

  /// The command that validates a configuration with the image's Consul.
  package static func validation(
    docker: String, image: String, settings: Settings, stagedPath: String, files: [String], arguments: [String]
  )
    -> Command
  {
    let mounts = ([settings.configDirectory, stagedPath] + files).flatMap { ["--volume", "\($0):\($0):ro"] }
    return Command(
      docker,
      ["run", "--rm", "--network", "none"] + mounts + ["--entrypoint", "consul", image, "validate", "-quiet"]
        + arguments)
  }
}
