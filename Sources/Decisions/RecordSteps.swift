internal import Base
internal import Model

/// The steps of the cluster's record around the start of a new cluster.
struct RecordSteps {
  /// Before everything else: nothing on this machine has changed if another server is first.
  private(set) var claim: Step?
  /// Right after it: the leader names the cluster in its key-value store as the record does.
  private(set) var remember: Step?
  /// Once the cluster is healthy, by the server that claimed its record. If that fails, the leader's sidecar does it.
  private(set) var formed: Step?

  /// - Throws: `Failure` with status 14 for more servers than a record holds.
  init(
    _ observation: Observation, _ decision: RecordDecision?, datacenter: String, _ settings: Settings
  ) throws(Failure) {
    guard let record = observation.record, let decision else { return }
    let own = observation.identity.instanceID
    let forming: RecordEntry
    switch decision {
    case .claim(let number, let epoch, let founders):
      forming = RecordEntry(
        number: number,
        record: ClusterRecord(
          .forming, cluster: record.newCluster, epoch: epoch, by: own, at: observation.time, datacenter: datacenter,
          servers: founders))
      claim = .claimRecord(parameter: record.parameter(number), text: try forming.record.text())
    case .found(let entry): forming = entry
    case .wait, .unavailable, .refuse: return
    }
    remember = .writeFile(path: settings.rememberedRecordPath, text: RememberedRecord(entry: forming).text)
    guard forming.record.by == own, forming.number < RecordEntry.maximumNumber else { return }
    formed = .recordFormed(
      parameter: record.parameter(forming.number + 1),
      text: try forming.record.formed(by: own, at: observation.time).text())
  }
}
