/// What `consul-bootstrap` does beside bootstrapping: the one list that the parser, help, the manual page and the completions read.
package enum Subcommand: String, Sendable, CaseIterable {
  case sidecar, status, doctor
  case iamPolicy = "iam-policy"
  case install, uninstall, completion, man

  /// What stands after its name in a usage line.
  package var usage: String {
    switch self {
    case .sidecar, .iamPolicy: "[options]"
    case .status: "[--check] [--json]"
    case .doctor: "[options] [--json]"
    case .install, .uninstall: "[--dry-run] [--json]"
    case .completion: "bash|zsh|fish"
    case .man: ""
    }
  }

  /// A sentence for help; the first words are the completions' description.
  package var summary: String {
    switch self {
    case .sidecar: "stay beside the agent"
    case .status: "show this node, its quorum and the forwarding of its logs"
    case .doctor: "try everything that a boot depends on, and say what is wrong"
    case .iamPolicy: "print the least-privilege policy for the options given"
    case .install: "prepare this machine, as an image is prepared"
    case .uninstall: "take away what install made"
    case .completion: "print the completions for a shell"
    case .man: "print the manual page"
    }
  }

  package var explanation: String {
    switch self {
    case .sidecar:
      "The sidecar stays beside the agent: it joins servers of other zones over the WAN, takes a client back to servers that have all been "
        + "replaced, adapts the configuration to an address that a reboot has changed, and says when a secret has changed. It forwards logs to "
        + "CloudWatch (--log). A run starts it: as consul-bootstrap.service under systemd, in the same process under supervise. SIGHUP makes it "
        + "read its options again."
    case .status:
      "status says how the agent, its quorum and the forwarding of the logs are; with --check, only what is wrong, with exit status 1."
    case .doctor:
      "doctor tries, with the options of a run (by default those of the last one), metadata, credentials, clock, each AWS call, the group, the peers' "
        + "ports, Consul, its configuration and data, this machine's ports, disk, names and units. A line for each, and what to do about what is "
        + "wrong; exit status 1 if anything is. On the machine it leaves nothing but its state directory; at AWS it makes what the options ask for and a run would make: "
        + "an empty log stream, its group, the gossip key."
    case .iamPolicy:
      "iam-policy prints the JSON of the policy that the instance's role needs for a run with these options, resources narrowed where AWS allows. "
        + "AWS_REGION and --account narrow it further. It asks nobody."
    case .install:
      "install makes the agent's user, the directories, the units (not started), the completions, the manual page and the rotation of our own log, and "
        + "puts this program into /usr/local/bin. Twice is once. It writes no configuration: that is a run's."
    case .uninstall:
      "uninstall takes away what install made, as far as nobody uses it: a running agent, its unit, configuration, data and user stay."
    case .completion:
      "completion prints what a shell needs to complete our options: source <(consul-bootstrap completion bash)."
    case .man: "man prints the manual page: consul-bootstrap man | man -l -"
    }
  }
}
