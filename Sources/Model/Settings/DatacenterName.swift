package import Base

extension Settings {
  /// - Throws: `Failure` with status 2 if the zone's name is no DNS label, or its id is not known.
  package func datacenterName(for identity: Identity) throws(Failure) -> String {
    guard layout == .datacenterPerAZ else { return datacenter }
    let name: String
    switch datacenterSource {
    case .zoneName: name = identity.availabilityZone
    case .zoneID:
      guard let id = identity.zoneID else {
        throw Failure(
          .noMetadata, "the instance metadata service names no availability-zone-id",
          hint: "use --datacenter-from zone-name")
      }
      name = id
    }
    guard NameTemplate.isLabel(name) else {
      throw Failure(
        .usage, "the datacenter's name would be \(name), which is no DNS label",
        hint: "use --datacenter-from zone-id, or one --datacenter")
    }
    return name
  }
}
