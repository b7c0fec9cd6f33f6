internal import Base
internal import Model

extension Option {
  static let machineOptions: [Option] = [
    Option(
      .machine, "consul", .value("PATH"), default: .described("consul in PATH"),
      "Consul binary"
    ) { value, options throws(OptionValueError) in
      options.settings.consulPath = try path(value)
    },
    Option(
      .machine, "config-dir", .value("DIR"), default: .value("/etc/consul.d"),
      "directory of 00-consul-bootstrap.json"
    ) { value, options throws(OptionValueError) in
      options.settings.configDirectory = try path(value)
    },
    Option(
      .machine, "data-dir", .value("DIR"), default: .value("/opt/consul"),
      "data directory of the agent"
    ) { value, options throws(OptionValueError) in
      options.settings.dataDirectory = try path(value)
    },
    Option(
      .machine, "keep-data", .flag, default: .value("false"),
      "keep a data directory of another instance instead of renaming it"
    ) { value, options throws(OptionValueError) in
      options.settings.keepData = try boolean(value)
    },
    Option(
      .machine, "state-dir", .value("DIR"), default: .value("/var/lib/consul-bootstrap"),
      "state directory of this program"
    ) { value, options throws(OptionValueError) in
      options.settings.stateDirectory = try path(value)
    },
    Option(
      .machine, "user", .value("NAME"), default: .value("consul"),
      "user that runs the agent and owns its files"
    ) { value, options throws(OptionValueError) in
      options.settings.user = try nonEmpty(value)
    },
    Option(
      .machine, "hostname", .value("TEMPLATE"),
      "set the host name, for example consul-{instance_suffix}; fields: "
        + NameTemplate.fields.keys.sorted().joined(separator: ", ")
    ) { value, options throws(OptionValueError) in
      options.settings.hostName = try template(value)
    },
    Option(
      .machine, "start", .value("systemd|supervise|docker|none"),
      default: .described("systemd where it is the init system, else supervise"),
      "how the agent runs: as consul.service, as a child process, in a container, or not at all"
    ) { value, options throws(OptionValueError) in
      options.settings.start = try choice(value) as Settings.Start
    },
    Option(
      .machine, "image", .value("IMAGE"),
      "for --start docker: image with Consul, preferably with its digest: consul@sha256:…"
    ) { value, options throws(OptionValueError) in
      options.settings.image = try imageName(value)
    },
    Option(
      .machine, "registrator", .value("IMAGE"),
      "for --start docker: also run registrator, which registers the containers of this machine"
    ) { value, options throws(OptionValueError) in
      options.settings.registratorImage = try imageName(value)
    },
    Option(
      .machine, "imdsv1", .flag, default: .value("false"),
      "fall back to version 1 of the instance metadata service"
    ) { value, options throws(OptionValueError) in
      options.allowsIMDSv1 = try boolean(value)
    },
  ]
}
