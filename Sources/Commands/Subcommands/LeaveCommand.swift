internal import Base
internal import Decisions
internal import Execution
internal import Model
internal import Sidecar

extension Subcommand {
  static let leave = Subcommand(
    "leave", usage: "[--dry-run] [--wait DURATION] [--force] [--json]",
    summary: "leave the cluster once the others keep their quorum without this server",
    explanation: "leave takes this machine out of its cluster. Servers leave one at a time, by a lock in Consul, and "
      + "only while the others keep their quorum. With --dry-run it shows the voters, the quorum and which are well. "
      + "What is not safe within --wait ends with status 19, and this server stays a voter. --force leaves whatever "
      + "the others lose by it.",
    optionSource: .lastRun, ownOptions: ["dry-run"]
  ) { try await LeaveCommand(options: $0.options, dependencies: $0.dependencies).run() }
}

struct LeaveCommand: Sendable {
  let options: Options
  let dependencies: CommandDependencies

  private var context: RuntimeContext { dependencies.context }

  func run() async throws -> ExitStatus {
    if options.isDryRun { return try await dryRun() }
    // Without root neither the options of the last run nor the configuration can be read: it would not know itself.
    guard context.system.isRoot else {
      throw Failure(.usage, "leave needs root", hint: "run it with sudo, or preview it with --dry-run")
    }
    if options.leaving.isStopping {
      guard await !context.reboots else {
        context.log.info("not leaving: this machine reboots, and returns with its data")
        return .done
      }
      return try await conclude(departure.runBeforeStop())
    }
    if options.leaving.isForced {
      await showFirst()
      context.log.warning("leaving by force: the others may lose their quorum")
      return try await conclude(departure.force())
    }
    return try await conclude(
      departure.run(Notice(.manual, deadline: context.uptime() + options.leaving.wait)))
  }

  /// A person, or a stop, does not wait for a replacement: what the groups want does not count.
  private var departure: Departure { Departure(settings: options.settings, context: context) }

  private func conclude(_ outcome: Departure.Outcome) throws -> ExitStatus {
    let (text, reason): (String, String?) =
      switch outcome {
      case .left: ("left", nil)
      case .nothingToLeave(let reason): ("nothing to leave", reason)
      case .lastOne(let reason): ("last one", reason)
      case .kept(let reason): ("kept", reason)
      }
    if options.wantsJSON {
      let report: JSONValue = ["outcome": .string(text), "reason": reason.map(JSONValue.string) ?? .null]
      dependencies.output.write(report.prettyText)
    }
    guard case .kept(let reason) = outcome else { return .done }
    throw Failure(
      .notLeft, "this machine has not left its cluster", details: [reason],
      hint: "make the missing servers well, or replace them, and repeat; leave --force leaves whatever is lost by it")
  }

  /// What the others lose, before they do.
  private func showFirst() async {
    guard options.settings.role == .server else { return }
    do {
      let report = LeaveReport(try await departure.preview())
      if options.wantsJSON {
        context.log.info("what this server sees", ["view": .string(report.json.compactText)])
      } else {
        dependencies.output.write(report.text)
      }
    } catch {
      context.log.warning("cannot see the cluster", ["reason": .string(error.explained)])
    }
  }

  private func dryRun() async throws -> ExitStatus {
    guard options.settings.role == .server else {
      dependencies.output.write("a client leaves at any time: the others lose nothing by it\n")
      return .done
    }
    let preview: Departure.Preview
    do {
      preview = try await departure.preview()
    } catch {
      throw Failure(
        .agentUnhealthy, "cannot see the cluster", details: [error.explained],
        hint: "consul-bootstrap status --check names what is wrong")
    }
    dependencies.output.write(
      options.wantsJSON ? LeaveReport(preview).json.prettyText : LeaveReport(preview).text)
    return .done
  }
}
