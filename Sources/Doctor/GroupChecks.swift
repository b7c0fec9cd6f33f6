internal import AWS
internal import Base
internal import Decisions
internal import Model

/// Whether the servers' groups replace an instance without harm to the quorum.
extension AWSChecks {
  /// Health checks that fail on every survivor of a cluster that has lost its quorum.
  private static let harmfulChecks = ["ELB", "VPC_LATTICE"]

  func replacements(_ group: GroupObservation) {
    guard settings.role == .server else { return }
    for scaling in group.scalingGroups {
      let checks = (scaling.healthCheckType ?? "").split(separator: ",").map(String.init)
      if let check = checks.first(where: Self.harmfulChecks.contains) {
        report(
          .note(
            "group",
            "the health check type of Auto Scaling group \(scaling.name) is \(check): once the quorum is lost, it "
              + "terminates every server that is left, and their data",
            hint: "aws autoscaling update-auto-scaling-group --auto-scaling-group-name \(scaling.name) "
              + "--health-check-type EC2"))
      }
      if let maximum = scaling.maxSize, scaling.desiredCapacity > 0, maximum <= scaling.desiredCapacity {
        report(
          .note(
            "group",
            "the maximum size of Auto Scaling group \(scaling.name) is its desired capacity, \(maximum): a replacement "
              + "cannot launch before an old server is terminated",
            hint: "aws autoscaling update-auto-scaling-group --auto-scaling-group-name \(scaling.name) "
              + "--max-size \(maximum.saturatingAdding(1))"))
      }
    }
  }
}
