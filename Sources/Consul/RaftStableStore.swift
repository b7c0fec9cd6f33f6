internal import Base

/// What raft remembers beside its log (hashicorp/raft, raft.go: `keyCurrentTerm`, `keyLastVoteTerm`,
/// `keyLastVoteCand`).
enum RaftStableStore {
  /// Whether this server has ever taken part in a cluster: raft saves a term before it stores an entry, and before it
  /// votes. A server that was only started saves term 0. raft itself refuses to bootstrap over a term
  /// (`HasExistingState`).
  static func showsCluster(_ elements: [BoltDatabase.Element], in file: RaftFile) throws(RaftFileError) -> Bool {
    var showsCluster = false
    for element in elements {
      switch String(decoding: element.key, as: UTF8.self) {
      case "CurrentTerm":
        guard element.value.count == 8 else { throw file.invalid("has a term of \(element.value.count) bytes") }
        if !element.value.isZero { showsCluster = true }
      case "LastVoteTerm", "LastVoteCand": showsCluster = true
      default: throw file.invalid("has an unknown key")
      }
    }
    return showsCluster
  }
}
