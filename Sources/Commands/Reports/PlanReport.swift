internal import Artifacts
package import Base
package import Decisions
package import Model

/// A plan for people and for programs; secrets redacted in both.
package struct PlanReport: Sendable {
  private let plan: Plan
  private let settings: Settings

  package init(_ plan: Plan, _ settings: Settings) { (self.plan, self.settings) = (plan, settings) }

  private var redactedCurrent: String? {
    plan.currentConfiguration.document?.redacted.prettyText
  }

  /// Not JSON, not readable, or not there.
  private var currentRemark: String? {
    switch plan.currentConfiguration.content {
    case .absent: "new file"
    case .unreadable(let reason): "the present file cannot be read: \(reason)"
    case .present: redactedCurrent == nil ? "the present file is not JSON; it is replaced" : nil
    }
  }

  // MARK: For people

  package var text: String {
    let identity = plan.identity
    var lines = ["This instance"]
    lines.append(
      "  \(identity.instanceID), \(identity.privateIP), \(identity.availabilityZone)"
        + (identity.vpcID.map { ", \($0)" } ?? "")
    )
    if let group = identity.groupName { lines.append("  in Auto Scaling group \(group)") }
    if let reason = settings.lostOptions {
      lines += ["", "Options of the last run", "  damaged, and not used: \(reason)"]
    } else if !settings.optionsOfLastRun.isEmpty {
      lines += ["", "Options of the last run, from \(settings.sidecarConfigurationPath)"]
      lines += settings.optionsOfLastRun.map { "  --\($0) \(settings.givenOptions[$0]?.compactText ?? "")" }
    }
    if let readiness = plan.readiness {
      lines += ["", "Instances considered"] + instanceLines(readiness)
      lines.append(
        "  \(readiness.members.count) of \(readiness.expected.map(String.init) ?? "?") are eligible: "
          + (readiness.isComplete ? "the group is complete" : "the group is not complete"))
      let missing = readiness.missing(identity: identity)
      if !readiness.isComplete, !missing.isEmpty { lines.append("  missing: \(missing.joined(separator: ", "))") }
    }
    lines += ["", "Decision: \(decisionText)"] + plan.decision.evidence.map { "  \($0)" }
    lines.append(
      "  peers to join: \(plan.peers.isEmpty ? "none" : plan.peers.map(\.description).joined(separator: ", "))")
    if !plan.wanPeers.isEmpty {
      lines.append("  peers to join over the WAN: \(plan.wanPeers.map(\.description).joined(separator: ", "))")
    }
    if let remark = recordRemark { lines.append("  \(remark)") }
    if let obstacle = plan.obstacle {
      lines +=
        ["", "A run would stop here, with status \(obstacle.status.rawValue)"] + obstacle.lines.map { "  \($0)" }
    }
    if !plan.warnings.isEmpty { lines += ["", "Warnings"] + plan.warnings.map { "  \($0)" } }
    lines += ["", "Configuration: \(plan.sidecarSteps.configuration.path)"] + diffLines.map { "  \($0)" }
    lines += ["", "Steps"]
    for (index, step) in plan.steps.all.enumerated() {
      lines.append("  \(index + 1). \(step.title)")
      if let command = step.command, step.title != command.text { lines.append("     $ \(command.text)") }
      if let (_, text) = step.file {
        lines += text.split(separator: "\n", omittingEmptySubsequences: false).dropLast().map { "     | \($0)" }
      }
    }
    if case .wait = plan.decision {
      lines += ["", "A run would wait before these steps; the configuration depends on what it sees then."]
    }
    lines += ["", "Nothing was changed.", ""]
    return lines.joined(separator: "\n")
  }

  /// What is not covered where a server has no record of its cluster.
  private var recordRemark: String? {
    guard plan.readiness?.role == .server, plan.observation.record == nil else { return nil }
    return Settings.withoutRecord
  }

  private func instanceLines(_ readiness: Readiness) -> [String] {
    let rows = readiness.evaluated.map { evaluated -> [String] in
      let instance = evaluated.instance
      let states = [instance.lifecycleState, instance.instanceState].compactMap { $0 }.joined(separator: ", ")
      var eligibility = "eligible"
      if case .ineligible(let reason) = evaluated.eligibility { eligibility = "not eligible: \(reason)" }
      if !readiness.isLocal(instance), evaluated.eligibility.address != nil { eligibility = "eligible for the WAN" }
      if instance.instanceID == plan.identity.instanceID { eligibility += " (this instance)" }
      return [
        instance.instanceID, instance.privateIP?.description ?? "-", instance.availabilityZone,
        instance.group ?? "-", states, eligibility,
      ]
    }
    let widths = (0..<6).map { column in rows.map { $0[column].count }.max() ?? 0 }
    return rows.map { row in
      "  "
        + row.enumerated().map { index, cell in
          index == row.count - 1 ? cell : cell + String(repeating: " ", count: widths[index] - cell.count + 2)
        }.joined()
    }
  }

  private var decisionText: String {
    switch plan.decision {
    case .newCluster(let expect, _): "a new cluster, bootstrap_expect \(expect)"
    case .join(let through, _):
      "join the cluster of \(through.map(\.description).joined(separator: ", "))"
    case .joinAsClient(let servers, _):
      "join \(servers.count == 1 ? "the server" : "any of the \(servers.count) servers") as a client"
    case .rejoin: "rejoin with the state on this machine"
    case .joinWithoutLeader: "join without bootstrapping; the cluster has lost its quorum"
    case .stayInWarmPool: "nothing is set up while the instance is in a warm pool"
    case .wait(let reason, _): "wait: \(reason.text)"
    }
  }

  private var diffLines: [String] {
    let new = plan.configuration.redactedText
    let remark = currentRemark.map { [$0] } ?? []
    guard let current = redactedCurrent else { return remark + lineDiff("", new) }
    return current == new ? ["unchanged"] + lineDiff(current, new) : lineDiff(current, new)
  }

  // MARK: For programs

  package var json: JSONValue {
    let identity = plan.identity
    var object: [String: JSONValue] = [
      "instance": .object([
        "instance_id": .string(identity.instanceID), "private_ip": .string(identity.privateIP.description),
        "availability_zone": .string(identity.availabilityZone), "region": .string(identity.region),
        "vpc_id": identity.vpcID.map(JSONValue.string) ?? .null,
        "group": identity.groupName.map(JSONValue.string) ?? .null,
      ]),
      "decision": .object(["name": .string(plan.decision.name), "evidence": .strings(plan.decision.evidence)]),
      "datacenter": .string(plan.datacenter),
      "options_of_last_run": .object(
        settings.givenOptions.filter { settings.optionsOfLastRun.contains($0.key) }),
      "peers": .strings(plan.peers.map(\.description)),
      "wan_peers": .strings(plan.wanPeers.map(\.description)),
      "configuration": plan.configuration.document.redacted,
      "configuration_path": .string(plan.sidecarSteps.configuration.path),
      "configuration_unchanged": .bool(redactedCurrent == plan.configuration.redactedText),
      "start": .string(plan.start.rawValue),
      "steps": .array(
        plan.steps.phases.flatMap { phase in phase.steps.map { (phase: phase.name, step: $0) } }.map { phase, step in
          var members: [String: JSONValue] = ["phase": .string(phase), "title": .string(step.title)]
          if let command = step.command { members["command"] = .strings([command.program] + command.arguments) }
          if let (path, text) = step.file { members["file"] = .object(["path": .string(path), "text": .string(text)]) }
          return .object(members)
        }),
      "warnings": .strings(plan.warnings),
      "obstacle": plan.obstacle.map { obstacle in
        .object([
          "status": .integer(Int64(obstacle.status.rawValue)), "message": .string(obstacle.message),
          "details": .strings(obstacle.details),
          "hint": obstacle.hint.map(JSONValue.string) ?? .null,
        ])
      } ?? .null,
    ]
    if let readiness = plan.readiness {
      object["group"] = .object([
        "expected": readiness.expected.map { .integer(Int64($0)) } ?? .null,
        "eligible": .integer(Int64(readiness.members.count)), "complete": .bool(readiness.isComplete),
        "missing": .strings(readiness.isComplete ? [] : readiness.missing(identity: identity)),
        "instances": .array(readiness.evaluated.map(Self.json)),
        "other_zones": .array(
          readiness.otherZones.map { zone in
            .object([
              "availability_zone": .string(zone.name), "expected": zone.expected.map { .integer(Int64($0)) } ?? .null,
              "eligible": .integer(Int64(zone.members.count)),
            ])
          }),
      ])
    }
    return .object(object)
  }

  private static func json(_ evaluated: Readiness.EvaluatedInstance) -> JSONValue {
    let instance = evaluated.instance
    let text = { (value: String?) in value.map(JSONValue.string) ?? JSONValue.null }
    var members: [String: JSONValue] = [
      "instance_id": .string(instance.instanceID), "group": text(instance.group),
      "availability_zone": .string(instance.availabilityZone), "lifecycle_state": text(instance.lifecycleState),
      "instance_state": text(instance.instanceState), "private_ip": text(instance.privateIP?.description),
      "vpc_id": text(instance.vpcID), "eligible": .bool(evaluated.eligibility.address != nil),
    ]
    if case .ineligible(let reason) = evaluated.eligibility { members["reason"] = .string(reason) }
    return .object(members)
  }
}
