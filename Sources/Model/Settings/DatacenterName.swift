internal import Base

extension Settings {
  /// Name of the datacenter that this instance belongs to.
  /// - Throws: `Failure` with status 2 for a zone whose name or ID is not a DNS label, with status 10 if the metadata
  ///   service does not return the zone's ID.
  package func datacenterName(for identity: Identity) throws(Failure) -> String {
    guard layout == .datacenterPerAZ else { return datacenter }
    let name: String
    switch datacenterSource {
    case .zoneName: name = identity.availabilityZone
    case .zoneID:
      guard let id = identity.zoneID else {
        throw Failure(
          .noMetadata, "the instance metadata service returns no availability-zone-id",
          hint: "set --datacenter-from zone-name")
      }
      name = id
    }
    guard NameTemplate.isLabel(name) else {
      throw Failure(
        .usage, "the datacenter's name would be \(name), which is not a DNS label",
        hint: "set --datacenter-from zone-id, or use one datacenter with --datacenter")
    }
    return name
  }
}
