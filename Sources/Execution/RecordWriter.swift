package import AWS
internal import Base
internal import Model

/// Creates the entries of a cluster's record.
package struct RecordWriter: Sendable {
  private let client: AWSClient

  package init(client: AWSClient) { self.client = client }

  /// - Returns: whether the parameter was created: false if there is one of that name already.
  /// - Throws: `Failure` with status 10, 11 or 12, or `CancellationError`.
  package func create(_ parameter: String, _ text: String) async throws -> Bool {
    do {
      return try await ParameterStore(client: client).create(parameter, text: text)
    } catch {
      throw error.asFailure("write the cluster's record \(parameter)")
    }
  }
}
