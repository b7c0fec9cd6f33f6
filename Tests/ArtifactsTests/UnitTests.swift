import Base
import Consul
import Testing

@testable import Artifacts
@testable import Model

/// The agent's systemd unit.
@Suite struct SystemdUnitTests {
  private let owner = FileOwner(user: 8500, group: 8500, userName: "consul", groupName: "consul")
  private let agent = Command("/usr/bin/consul", ["agent", "-config-dir=/etc/consul.d"])

  @Test func `the whole unit`() {
    let unit = SystemdUnit(
      agent: agent, beforeStart: Command("/usr/local/bin/consul-bootstrap", ["before-start"]),
      leave: Command("/usr/local/bin/consul-bootstrap", ["leave", "--stopping"]), owner: owner, bindsLowPorts: true)
    #expect(
      unit.text == """
        # Written by consul-bootstrap, which overwrites it. Add changes with: systemctl edit consul
        [Unit]
        Description=Consul agent
        Documentation=https://developer.hashicorp.com/consul/docs
        Wants=network-online.target
        After=network-online.target
        StartLimitIntervalSec=0

        [Service]
        Type=exec
        User=consul
        Group=consul
        AmbientCapabilities=CAP_NET_BIND_SERVICE
        ExecStartPre=-+/usr/local/bin/consul-bootstrap before-start
        ExecStart=/usr/bin/consul agent -config-dir=/etc/consul.d
        ExecReload=/bin/sh -c 'kill -HUP $MAINPID'
        ExecStop=-+/usr/local/bin/consul-bootstrap leave --stopping
        KillMode=mixed
        KillSignal=SIGTERM
        TimeoutStopSec=60
        SuccessExitStatus=1
        RestartForceExitStatus=1
        Restart=on-failure
        RestartSec=2
        LimitNOFILE=65536

        [Install]
        WantedBy=multi-user.target

        """)
  }

  @Test func `without a user the agent runs as root, which needs no capability; without a leave it is stopped`() {
    let text = SystemdUnit(agent: agent, beforeStart: nil, leave: nil, owner: nil, bindsLowPorts: true).text
    for key in ["User=", "Group=", "AmbientCapabilities", "ExecStartPre", "ExecStop"] { #expect(!text.contains(key)) }
  }
}

/// The sidecar's systemd unit.
@Suite struct SidecarUnitTests {
  private func lines(_ environment: [String: String] = [:], _ change: (inout Settings) -> Void = { _ in }) -> [String] {
    var settings = Settings()
    change(&settings)
    return SidecarUnit(program: "/usr/local/bin/consul-bootstrap", settings: settings, environment: environment).text
      .split(separator: "\n").map(String.init)
  }

  private func value(_ key: String, _ lines: [String]) -> String? {
    lines.first { $0.hasPrefix("\(key)=") }.map { String($0.dropFirst(key.count + 1)) }
  }

  /// Guards against credentials in a unit file, which every user can read, and against a line that breaks the unit.
  @Test func `the run's AWS settings are passed on, without credentials`() {
    let run = [
      "AWS_REGION": "eu-west-1", "AWS_PROFILE": "", "AWS_ENDPOINT_URL_LOGS": "https://vpce.example/%2f",
      "AWS_ENDPOINT_URL": "https://user:password@proxy", "AWS_ACCESS_KEY_ID": "AKID",
      "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "token", "AWS_CA_BUNDLE": "/a\n/b",
      "AWS_CONFIG_FILE": "/a\r\n/b", "AWS_MAX_ATTEMPTS": "\"3\"", "PATH": "/usr/bin",
    ]
    let passed = SidecarUnit.environment(of: run)
    #expect(passed == ["AWS_REGION": "eu-west-1", "AWS_ENDPOINT_URL_LOGS": "https://vpce.example/%2f"])
    #expect(
      lines(passed).filter { $0.hasPrefix("Environment=") } == [
        "Environment=\"AWS_ENDPOINT_URL_LOGS=https://vpce.example/%%2f\"", "Environment=\"AWS_REGION=eu-west-1\"",
      ])
  }

  @Test func `only what it writes is writable`() {
    #expect(value("ReadWritePaths", lines()) == "/etc/consul.d -/var/lib/consul-bootstrap -/opt/consul")
    #expect(value("ReadWritePaths", lines { $0.role = .client }) == "/etc/consul.d -/var/lib/consul-bootstrap")
    let all = lines {
      $0.configDirectory = "/srv/consul"
      $0.logs = [.init(source: .bootstrap)]
      $0.metricsAddress = .unix(path: "/run/metrics/consul.sock")
    }
    #expect(
      value("ReadWritePaths", all) == "/srv/consul -/var/lib/consul-bootstrap -/opt/consul /var/log -/run/metrics")
  }

  @Test func `limits follow the settings`() {
    #expect(value("MemoryHigh", lines()) == "96M" && value("MemoryMax", lines()) == "192M")
    #expect(value("TimeoutStopSec", lines()) == "30")
    let large = lines {
      $0.logMemory = 64 << 20
      $0.flushTimeout = .seconds(100)
    }
    #expect(value("MemoryHigh", large) == "152M" && value("MemoryMax", large) == "248M")
    #expect(value("TimeoutStopSec", large) == "120")
  }

  /// Options bound these numbers; a setting beyond them must not trap.
  @Test func `limits beyond any number saturate`() {
    let extreme = lines {
      $0.logMemory = .max
      $0.flushTimeout = .seconds(Int64.max)
    }
    #expect(value("TimeoutStopSec", extreme) == "9223372036854775807")
    #expect(value("MemoryHigh", extreme) == "8796093022295M")
  }

  @Test func `it starts with the options of the run`() {
    var settings = Settings()
    settings.givenOptions = ["expect": "3", "ui": "true"]
    let unit = SidecarUnit(program: "/opt/my program", settings: settings, environment: [:])
    #expect(unit.options == "{\n  \"expect\": \"3\",\n  \"ui\": \"true\"\n}\n")
    #expect(unit.optionsPath == "/var/lib/consul-bootstrap/options.json")
    #expect(
      value("ExecStart", unit.text.split(separator: "\n").map(String.init))
        == "'/opt/my program' sidecar --config /var/lib/consul-bootstrap/options.json")
  }

  /// Without options, or without a state directory, systemd skipped the unit, or could not start it.
  @Test func `it starts without its options if a run has configured the agent`() {
    let lines = lines {
      $0.stateDirectory = "/s"
      $0.configDirectory = "/c"
    }
    #expect(
      lines.filter { $0.hasPrefix("ConditionPathExists=") } == [
        "ConditionPathExists=|/s/options.json", "ConditionPathExists=|/c/00-consul-bootstrap.json",
      ])
    #expect(value("ExecStartPre", lines) == "+/bin/mkdir -p /s")
    #expect(
      value("ExecStart", lines)?.hasSuffix(" sidecar --config /s/options.json --config-dir /c --state-dir /s") == true)
  }
}

/// The containers of `--start docker`.
@Suite struct DockerContainerTests {
  private let owner = FileOwner(user: 8500, group: 8501, userName: "consul", groupName: "consul")

  private func agent(owner: FileOwner?, files: [String] = [], bindsLowPorts: Bool = false) -> DockerContainer {
    .agent(
      docker: "/usr/bin/docker", image: "consul:1.20", settings: Settings(), owner: owner, files: files,
      bindsLowPorts: bindsLowPorts)
  }

  @Test func `the agent's command, with itself as the label`() {
    let run =
      "run --detach --name consul --network host --restart on-failure --stop-timeout 60 "
      + "--volume /etc/consul.d:/etc/consul.d:ro --volume /opt/consul:/opt/consul --volume /ca.pem:/ca.pem:ro "
      + "--user 8500:8501 --entrypoint consul consul:1.20 agent -config-dir=/etc/consul.d"
    let container = agent(owner: owner, files: ["/ca.pem"])
    #expect(container.fingerprint == run)
    #expect(container.run.arguments.filter { $0.hasPrefix("consul-bootstrap=") } == ["consul-bootstrap=\(run)"])
    #expect(container.run.program == "/usr/bin/docker" && container.name == "consul")
  }

  /// Docker gives no other user a low port in the host's network.
  @Test func `the agent runs as root where it binds low ports`() {
    #expect(!agent(owner: owner, bindsLowPorts: true).fingerprint.contains("--user"))
    #expect(!agent(owner: nil).fingerprint.contains("--user"))
    #expect(agent(owner: nil).fingerprint != agent(owner: owner).fingerprint)
  }

  @Test func `the other commands`() {
    #expect(
      DockerContainer.registrator(docker: "/d", image: "r:7", agentAddress: "127.0.0.1:8500").fingerprint
        == "run --detach --name registrator --network host --restart always "
        + "--volume /var/run/docker.sock:/tmp/docker.sock r:7 consul://127.0.0.1:8500")
    #expect(
      DockerContainer.version(docker: "/d", image: "c:1").text
        == "/d run --rm --network none --entrypoint consul c:1 version")
    #expect(
      DockerContainer.validation(
        docker: "/d", image: "c:1", settings: Settings(), stagedPath: "/s.json", files: ["/ca.pem"],
        arguments: ["/s.json", "/etc/consul.d/zz.hcl"]
      ).text
        == "/d run --rm --network none --volume /etc/consul.d:/etc/consul.d:ro --volume /s.json:/s.json:ro "
        + "--volume /ca.pem:/ca.pem:ro --entrypoint consul c:1 validate -quiet /s.json /etc/consul.d/zz.hcl")
  }
}

/// The configuration of AWS's log agents.
@Suite struct LogAgentConfigurationTests {
  private let identity = Identity(
    instanceID: "i-2", region: "eu-west-1", availabilityZone: "eu-west-1a", privateIP: IPv4Address("10.0.1.10")!,
    vpcID: "vpc-1")

  private func configuration(
    _ agent: Settings.LogAgent?, group: String? = nil, syslog: String? = "/var/log/messages",
    _ change: (inout Settings) -> Void = { _ in }
  ) -> LogAgentConfiguration? {
    var settings = Settings()
    settings.logAgent = agent
    settings.logs = [.init(source: .syslog), .init(source: .file(FilePattern("/var/log/app-*.log")!))]
    settings.logs[1].group = "/app/{az}"
    settings.logs[1].retention = 7
    settings.logs[1].multilineStart = "^[0-9]"
    change(&settings)
    return LogAgentConfiguration(settings, identity, hostName: "host", groupName: group, syslogFile: syslog)
  }

  @Test func `awslogs has a section for each file`() {
    #expect(
      configuration(.awslogs)?.text == """
        # Written by consul-bootstrap, which overwrites it.

        [/var/log/messages]
        file = /var/log/messages
        log_group_name = /consul/dc1
        log_stream_name = i-2/syslog
        initial_position = start_of_file

        [/var/log/app-*.log]
        file = /var/log/app-*.log
        log_group_name = /app/eu-west-1a
        log_stream_name = i-2/var/log/app-_.log
        initial_position = start_of_file
        multi_line_start_pattern = ^[0-9]

        """)
  }

  @Test func `the CloudWatch agent has a list of files`() throws {
    let agent = try #require(configuration(.cloudWatchAgent))
    let list = try JSONValue(parsing: agent.text)["logs"]?["logs_collected"]?["files"]?["collect_list"]
    #expect(
      list == [
        ["file_path": "/var/log/messages", "log_group_name": "/consul/dc1", "log_stream_name": "i-2/syslog"],
        [
          "file_path": "/var/log/app-*.log", "log_group_name": "/app/eu-west-1a",
          "log_stream_name": "i-2/var/log/app-_.log", "retention_in_days": 7, "multi_line_start_pattern": "^[0-9]",
        ],
      ])
    #expect(agent.agent.path == "/var/lib/consul-bootstrap/amazon-cloudwatch-agent.json")
    #expect(agent.agent.command?.arguments.last == "file:\(agent.agent.path)")
  }

  @Test func `without an agent, a file or a known name there is none`() {
    #expect(configuration(nil) == nil && configuration(.awslogs, syslog: nil) == nil)
    #expect(configuration(.awslogs) { $0.logGroup = "/{group}" } == nil)
    #expect(configuration(.awslogs, group: "web") { $0.logGroup = "/{group}" }?.files.first?.group == "/web")
    #expect(configuration(.awslogs) { $0.logs.append(.init(source: .consul)) } == nil)
  }
}
