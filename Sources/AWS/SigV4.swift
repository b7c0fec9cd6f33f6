package import Base

/// Signature Version 4 (AWS General Reference, "Create a signed AWS API request"), for requests whose path and query
/// need no further encoding, as those of the Query and JSON protocols: all parameters are in the body.
package struct SigV4: Sendable {
  package let region: String
  /// The signing name, for example `autoscaling`.
  package let service: String

  package init(region: String, service: String) {
    self.region = region
    self.service = service
  }

  /// Adds `X-Amz-Date`, `X-Amz-Security-Token` where the credentials have one, and `Authorization`. Signs every header
  /// that the request has by then, and `host`.
  /// - Parameter host: the URL's authority, with the port where it is not the scheme's own.
  package func sign(_ request: inout HTTPRequest, host: String, with credentials: Credentials, at time: Timestamp) {
    let date = time.basic
    request.headers.append(("X-Amz-Date", date))
    if let token = credentials.sessionToken { request.headers.append(("X-Amz-Security-Token", token.value)) }

    let headers = (request.headers + [("host", host)])
      .map { (name: $0.name.lowercased(), value: Self.trimmed($0.value)) }
      .sorted { $0.name < $1.name }
    let signedHeaders = headers.map(\.name).joined(separator: ";")
    let canonicalRequest = [
      request.method, Self.path(of: request.url), "",
      headers.map { "\($0.name):\($0.value)\n" }.joined(), signedHeaders,
      Digest.hex(Digest.sha256(request.body)),
    ].joined(separator: "\n")

    let day = String(date.prefix(8))
    let scope = "\(day)/\(region)/\(service)/aws4_request"
    let stringToSign = "AWS4-HMAC-SHA256\n\(date)\n\(scope)\n" + Digest.hex(Digest.sha256(Array(canonicalRequest.utf8)))
    var key = Digest.hmac(key: Array("AWS4\(credentials.secretAccessKey.value)".utf8), day)
    for part in [region, service, "aws4_request"] { key = Digest.hmac(key: key, part) }
    let signature = Digest.hex(Digest.hmac(key: key, stringToSign))
    request.headers.append(
      (
        "Authorization",
        "AWS4-HMAC-SHA256 Credential=\(credentials.accessKeyID)/\(scope), "
          + "SignedHeaders=\(signedHeaders), Signature=\(signature)"
      ))
  }

  /// Without blanks at the ends, and with single blanks inside.
  private static func trimmed(_ value: String) -> String {
    value.split(whereSeparator: { $0 == " " || $0 == "\t" }).joined(separator: " ")
  }

  private static func path(of url: String) -> String {
    guard let scheme = url.firstRange(of: "://"), let slash = url[scheme.upperBound...].firstIndex(of: "/") else {
      return "/"
    }
    return String(url[slash...].prefix { $0 != "?" })
  }
}
