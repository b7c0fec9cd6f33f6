package import AWS
package import Base
package import Model

/// Reads a cluster's record from Parameter Store, and asks EC2 about the servers that its newest entry names.
package struct RecordObserver: Sendable {
  private let context: RuntimeContext
  private let client: AWSClient

  package init(context: RuntimeContext, client: AWSClient) {
    self.context = context
    self.client = client
  }

  /// Entries that another server may add while this one reads: more than a minute's worth.
  private static let maximumFollowed = 100
  /// EC2's answers are eventually consistent: an instance that a younger entry names may be too new for them.
  private static let knownAfter = Duration.seconds(300)

  /// - Returns: the record as it is now; one that cannot be read is `.unavailable`.
  /// - Throws: `Failure` with status 14 for an entry that is not understood; `CancellationError`.
  package func observe(
    _ record: RecordObservation, _ group: GroupObservation?, _ identity: Identity
  ) async throws -> RecordObservation {
    var record = record
    record.standings = [:]
    do {
      guard let entry = try await newest(below: record.path, for: identity.instanceID) else {
        record.newest = .none
        return record
      }
      record.newest = .entry(entry)
      record.standings = try await standings(of: entry.record, group, identity)
    } catch let error as CancellationError {
      throw error
    } catch let failure as Failure {
      throw failure
    } catch {
      guard let failure = error.asFailure("read the cluster's record \(record.path)") as? Failure else { throw error }
      record.newest = .unavailable(failure)
    }
    return record
  }

  /// The entry with the highest number; nil if there is none.
  ///
  /// The list may be stale: entries that follow it are read one by one, unless the newest lets the instance found the
  /// cluster. An entry that would forbid that is younger than the list, and so is the cluster that it is of: its
  /// servers run, and Consul itself asks each that joins.
  /// - Throws: as `ParameterStore`; `Failure` with status 14 for an entry that is not understood.
  /// - Parameter instance: one that would found a cluster; nil reads to the end in any case.
  package func newest(below path: String, for instance: String?) async throws -> RecordEntry? {
    let store = ParameterStore(client: client)
    var newest: (number: Int, text: String)?
    for (name, value) in try await store.parameters(below: path + "/") {
      guard let number = try number(of: name, below: path), number > newest?.number ?? 0 else { continue }
      newest = (number, value)
    }
    if let newest, let instance, case .success(let record) = parse(newest.text), record.state == .forming,
      record.names(instance)
    {
      return RecordEntry(number: newest.number, record: record)
    }
    for _ in 0..<Self.maximumFollowed {
      let number = (newest?.number ?? 0) + 1
      guard number <= RecordEntry.maximumNumber,
        let next = try await store.parameter("\(path)/\(RecordEntry.name(number))")
      else { break }
      newest = (number, next.value)
    }
    guard let newest else { return nil }
    switch parse(newest.text) {
    case .success(let record): return RecordEntry(number: newest.number, record: record)
    case .failure(let error):
      throw Self.notUnderstood("\(path)/\(RecordEntry.name(newest.number))", error.explanation)
    }
  }

  private func parse(_ text: String) -> Result<ClusterRecord, ClusterRecord.Malformed> {
    do { return .success(try ClusterRecord(parsing: text)) } catch { return .failure(error) }
  }

  /// Nil for a parameter with a name that is no number. A number of another form is an error: it was meant as an entry.
  private func number(of name: String, below path: String) throws(Failure) -> Int? {
    let last = name.dropFirst(path.utf8.count + 1)
    if let number = RecordEntry.number(of: last) { return number }
    guard !last.isEmpty, last.allSatisfy(\.isNumber) else { return nil }
    throw Self.notUnderstood(name, "an entry's number has six digits, from 000001")
  }

  private static func notUnderstood(_ name: String, _ reason: String) -> Failure {
    Failure(
      .configurationRejected, "\(name) is no entry of a cluster's record that this version understands",
      details: [reason],
      hint: "no new cluster is formed beside it: update consul-bootstrap, or correct the parameter (docs/operations.md)"
    )
  }

  /// What EC2 says about the servers: from the group where they are in it, else by a call of its own.
  private func standings(
    of record: ClusterRecord, _ group: GroupObservation?, _ identity: Identity
  ) async throws -> [String: RecordObservation.Standing] {
    guard [.forming, .formed].contains(record.state) else { return [:] }
    var standings: [String: RecordObservation.Standing] = [:]
    for instance in group?.instances ?? [] where record.names(instance.instanceID) {
      if let state = instance.instanceState { standings[instance.instanceID] = .state(state) }
    }
    let unknown = Set(record.servers.compactMap(\.instance)).filter {
      standings[$0] == nil && $0 != identity.instanceID
    }
    guard !unknown.isEmpty else { return standings }
    let found: [EC2Instance]
    do {
      found = try await EC2(client: client).describeInstances(
        [.init("instance-id", [identity.instanceID] + unknown.sorted())])
    } catch let error as AWSError {
      context.log.warning(
        "cannot ask EC2 about the servers of the cluster's record", ["reason": .string(error.explanation)])
      return standings
    }
    let states = Dictionary(found.map { ($0.instanceID, $0.state) }, uniquingKeysWith: { _, last in last })
    let isOld = record.at.map { context.now() - $0 >= Self.knownAfter } ?? false
    for instance in unknown {
      if let state = states[instance] {
        standings[instance] = .state(state)
      } else if isOld, states[identity.instanceID] != nil {
        standings[instance] = .unknownToEC2
      }
    }
    return standings
  }
}
