internal import Artifacts
internal import Base
internal import Model

/// Commands that print what they know without asking anything.
extension Subcommand {
  static let iamPolicy = Subcommand(
    "iam-policy", usage: "[options]", summary: "print the least-privilege IAM policy for the given options",
    explanation: "iam-policy prints the JSON policy that the instance's role needs for a run with these options. "
      + "Resources are narrowed where AWS allows; AWS_REGION and --account narrow them further. It makes no call.",
    ownOptions: ["account"]
  ) { invocation in
    let environment = invocation.dependencies.context.environment
    let region = [environment["AWS_REGION"], environment["AWS_DEFAULT_REGION"]].compactMap { $0 }.first { !$0.isEmpty }
    let options = invocation.options
    let policy = IAMPolicy(options.settings, region: region ?? "*", account: options.account ?? "*")
    invocation.dependencies.output.write(policy.json.prettyText)
    return .done
  }

  static let completion = Subcommand(
    "completion", usage: "bash|zsh|fish", summary: "print the completions for a shell",
    explanation: "completion prints a script that completes the options: source <(consul-bootstrap completion bash).",
    operands: Completion.allCases.map(\.rawValue), optionSource: .none
  ) { invocation in
    guard let shell = invocation.options.operand.flatMap({ Completion(rawValue: $0) }) else {
      throw Failure(.usage, "completion needs the name of a shell", hint: "bash, zsh or fish")
    }
    invocation.dependencies.output.write(shell.script)
    return .done
  }

  static let man = Subcommand(
    "man", summary: "print the manual page",
    explanation: "man prints the manual page: consul-bootstrap man | man -l -",
    optionSource: .none
  ) { invocation in
    invocation.dependencies.output.write(ManualPage.text(version: invocation.dependencies.version))
    return .done
  }
}
