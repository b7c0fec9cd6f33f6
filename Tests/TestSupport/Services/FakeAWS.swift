package import AWS
package import Base
internal import CDeflate
internal import Foundation

/// EC2, Auto Scaling, Parameter Store, Secrets Manager and CloudWatch Logs of one region, as values that a test sets.
///
/// It answers the calls that the program makes, in AWS's protocols; any other action or filter crashes the test.
package final class FakeAWS: Sendable {
  /// A call that arrived, with its parameters: those of the form, or the members of the JSON body as text.
  package struct Call: Sendable, Equatable {
    package let service: String
    package let action: String
    package let parameters: [String: String]
  }

  /// An answer of AWS that is not a result.
  package struct Refusal: Sendable {
    package let status: Int
    package let code: String
    package let message: String

    package init(status: Int, code: String, message: String = "") {
      (self.status, self.code, self.message) = (status, code, message)
    }

    package static let accessDenied = Refusal(status: 403, code: "AccessDenied", message: "not authorized")
    package static let throttled = Refusal(status: 400, code: "Throttling", message: "Rate exceeded")
    package static let internalFailure = Refusal(status: 500, code: "InternalFailure")
  }

  fileprivate struct Fault {
    let action: String
    let refusal: Refusal?
    let error: TransportError?
    var times: Int
  }

  struct LogStreamState: Sendable {
    var events: [(time: Int64, message: String)] = []
  }

  struct State {
    var groups: [FakeGroup] = []
    var instances: [FakeInstance] = []
    var parameters: [String: String] = [:]
    var secrets: [String: String] = [:]
    /// By group and stream.
    var logs: [String: [String: LogStreamState]] = [:]
    var retention: [String: Int64] = [:]
    var pageSize = 1000
    var numbersRequests = false
    var calls: [Call] = []
    /// `hook group instance result` of every hook that was completed.
    var completed: [String] = []
    var heartbeats = 0
    fileprivate var faults: [Fault] = []
  }

  let state = Watched(State())
  package let region: String
  private let context: TestContext

  /// Known under the transport of `context` at once.
  package init(_ context: TestContext, region: String = "eu-west-1") {
    self.region = region
    self.context = context
    for service in [AWSService.ec2, .autoScaling, .ssm, .secretsManager, .logs] {
      context.transport.on("https://\(service.name).\(region).amazonaws.com/") { request in
        try self.answer(request, service)
      }
    }
  }

  /// A client with fixed credentials, for flows that are given one.
  package func client(retries: RetrySettings = RetrySettings()) -> AWSClient {
    struct Fixed: CredentialProvider {
      func credentials() -> Credentials? {
        Credentials(
          accessKeyID: "AKIDEXAMPLE", secretAccessKey: Secret("example-secret"), source: "the test",
          roleName: "web-node")
      }
    }
    return AWSClient(
      region: region, endpoints: EndpointResolver(environment: [:]),
      credentials: CredentialCache(providers: [Fixed()], now: context.clock.wall), transport: context.transport,
      retries: retries, clock: context.clock, uptime: context.clock.uptime, now: context.clock.wall, log: context.log)
  }

  // MARK: what the test sets up

  package func setGroups(_ groups: [FakeGroup]) { state.update { $0.groups = groups } }
  package func setInstances(_ instances: [FakeInstance]) { state.update { $0.instances = instances } }
  package func setParameter(_ name: String, _ value: String?) { state.update { $0.parameters[name] = value } }
  package func setSecret(_ id: String, _ value: String?) { state.update { $0.secrets[id] = value } }
  package func setPageSize(_ count: Int) { state.update { $0.pageSize = count } }

  /// Each answer has a request ID of its own, as AWS's have, instead of `request-1` and none.
  package func numberRequests() { state.update { $0.numbersRequests = true } }

  /// Changes one instance.
  package func change(_ id: String, _ change: @Sendable (inout FakeInstance) -> Void) {
    state.update { state in
      guard let index = state.instances.firstIndex(where: { $0.id == id }) else { fatalError("no instance \(id)") }
      change(&state.instances[index])
    }
  }

  /// So many calls of the action, for example `DescribeInstances`, are answered so.
  package func refuse(_ action: String, _ refusal: Refusal, times: Int = .max) {
    state.update { $0.faults.insert(Fault(action: action, refusal: refusal, error: nil, times: times), at: 0) }
  }

  /// So many calls of the action get no answer.
  package func fail(_ action: String, _ error: TransportError, times: Int = .max) {
    state.update { $0.faults.insert(Fault(action: action, refusal: nil, error: error, times: times), at: 0) }
  }

  /// Ends what `refuse` and `fail` began.
  package func recover(_ action: String) { state.update { $0.faults.removeAll { $0.action == action } } }

  package func createLogStream(group: String, stream: String) {
    state.update { $0.logs[group, default: [:]][stream] = LogStreamState() }
  }

  // MARK: what the test sees

  package var calls: [Call] { state.value.calls }
  package func calls(_ action: String) -> [Call] { calls.filter { $0.action == action } }

  /// Waits until the action was called so many times.
  @discardableResult
  package func call(_ action: String, number: Int = 1) async throws -> Call {
    try await state.wait { state in
      let found = state.calls.filter { $0.action == action }
      return found.count >= number ? found[number - 1] : nil
    }
  }

  package func parameter(_ name: String) -> String? { state.value.parameters[name] }

  /// `HOOK GROUP INSTANCE CONTINUE`, in order.
  package var completedHooks: [String] { state.value.completed }
  package var heartbeats: Int { state.value.heartbeats }

  package func messages(group: String, stream: String) -> [String] {
    state.value.logs[group]?[stream]?.events.map(\.message) ?? []
  }

  /// Waits until the stream has so many events.
  package func messages(group: String, stream: String, count: Int) async throws -> [String] {
    try await state.wait { state in
      let events = state.logs[group]?[stream]?.events ?? []
      return events.count >= count ? events.map(\.message) : nil
    }
  }

  package var logStreams: [String: [String]] { state.value.logs.mapValues { $0.keys.sorted() } }
  package func retentionDays(group: String) -> Int64? { state.value.retention[group] }

  // MARK: the protocols

  private func answer(_ request: HTTPRequest, _ service: AWSService) throws -> HTTPResponse {
    let date = ["date": httpDate(context.clock.wall())]
    // A probe, unsigned: any answer will do.
    if request.method == "GET" { return HTTPResponse(status: 404, headers: date, body: []) }
    let isJSON = request.header("X-Amz-Target") != nil
    let call = isJSON ? try jsonCall(request, service) : queryCall(request, service)
    let fault: Fault? = state.update { state in
      state.calls.append(call.call)
      guard let index = state.faults.firstIndex(where: { $0.action == call.call.action && $0.times > 0 }) else {
        return nil
      }
      if state.faults[index].times < .max { state.faults[index].times -= 1 }
      return state.faults[index]
    }
    do {
      if let error = fault?.error { throw error }
      if let refusal = fault?.refusal { throw RefusalError(refusal) }
      let body =
        isJSON
        ? try state.update { try $0.json(call.call.action, call.body) }
        : try state.update { try $0.query(call.call.action, call.call.parameters) }
      return HTTPResponse(status: 200, headers: date, body: Array(body.utf8))
    } catch let error as RefusalError {
      let number = state.value.numbersRequests ? state.value.calls.count : nil
      let headers = date.merging(isJSON ? number.map { ["x-amzn-requestid": "request-\($0)"] } ?? [:] : [:]) { $1 }
      return HTTPResponse(
        status: error.refusal.status, headers: headers,
        body: Array(error.body(service, isJSON: isJSON, request: number ?? 1).utf8))
    }
  }

  private func queryCall(_ request: HTTPRequest, _ service: AWSService) -> (call: Call, body: JSONValue) {
    var parameters: [String: String] = [:]
    for pair in String(decoding: request.body, as: UTF8.self).split(separator: "&") {
      let halves = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        .map { $0.replacing("+", with: " ").removingPercentEncoding ?? "" }
      parameters[halves[0]] = halves.count > 1 ? halves[1] : ""
    }
    let action = parameters["Action"] ?? ""
    parameters["Action"] = nil
    parameters["Version"] = nil
    return (Call(service: service.title, action: action, parameters: parameters), .null)
  }

  private func jsonCall(_ request: HTTPRequest, _ service: AWSService) throws -> (call: Call, body: JSONValue) {
    let action = request.header("X-Amz-Target")?.split(separator: ".").last.map(String.init) ?? ""
    let bytes = request.header("Content-Encoding") == "gzip" ? gunzip(request.body) : request.body
    let body = try JSONValue(parsing: bytes)
    let parameters = (body.object ?? [:]).mapValues { $0.string ?? $0.compactText }
    return (Call(service: service.title, action: action, parameters: parameters), body)
  }
}

struct RefusalError: Error {
  let refusal: FakeAWS.Refusal

  init(_ refusal: FakeAWS.Refusal) { self.refusal = refusal }

  init(_ status: Int, _ code: String, _ message: String = "") {
    refusal = FakeAWS.Refusal(status: status, code: code, message: message)
  }

  func body(_ service: AWSService, isJSON: Bool, request number: Int) -> String {
    if isJSON {
      let body: JSONValue = ["__type": .string(refusal.code), "message": .string(refusal.message)]
      return body.compactText
    }
    let error =
      "<Error>\(QueryXML.element("Code", refusal.code))\(QueryXML.element("Message", refusal.message))</Error>"
    // EC2 answers in a shape of its own.
    return service == .ec2
      ? "<Response><Errors>\(error)</Errors><RequestID>request-\(number)</RequestID></Response>"
      : "<ErrorResponse>\(error)<RequestId>request-\(number)</RequestId></ErrorResponse>"
  }
}

/// `Thu, 01 Jan 2026 00:00:00 GMT`.
func httpDate(_ time: Timestamp) -> String {
  let formatter = DateFormatter()
  formatter.locale = Locale(identifier: "en_US_POSIX")
  formatter.timeZone = TimeZone(identifier: "GMT")
  formatter.dateFormat = "EEE, dd MMM yyyy HH:mm:ss 'GMT'"
  return formatter.string(from: Date(timeIntervalSince1970: Double(time.milliseconds) / 1000))
}

/// At most 64 MB.
private func gunzip(_ bytes: [UInt8]) -> [UInt8] {
  guard let decompressor = libdeflate_alloc_decompressor() else { fatalError("no memory") }
  defer { libdeflate_free_decompressor(decompressor) }
  let size = bytes.suffix(4).reversed().reduce(0) { $0 << 8 | Int($1) }
  var output = [UInt8](repeating: 0, count: min(size, 64 << 20))
  var written = 0
  let result = libdeflate_gzip_decompress(decompressor, bytes, bytes.count, &output, output.count, &written)
  guard result == LIBDEFLATE_SUCCESS else { fatalError("the request's body is not gzip") }
  return Array(output[..<written])
}
