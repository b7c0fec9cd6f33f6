import Base

@testable import AWS

private let signer = Credentials(
  accessKeyID: "AKIDEXAMPLE", secretAccessKey: Secret("example-secret"), sessionToken: Secret("example-token"),
  source: "the test")

/// AWS's Query answers: refused, or a tree that can be walked. Whatever the body of an error is, it gives an error, and
/// one without the secrets of the caller.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>, _ count: Int) -> CInt {
  let bytes = input(data, count)
  let error = AWSError(HTTPResponse(status: 400, body: bytes), .describeInstances, signer: signer, attempts: 1)
  precondition(!error.explanation.contains("example-token"), "a secret in an error")
  guard let root = try? XMLDocument(parsing: bytes).root else { return 0 }
  precondition(!root.name.isEmpty, "an element without a name")
  walk(root, depth: 1)
  return 0
}

private func walk(_ element: XMLElement, depth: Int) {
  precondition(depth <= XMLDocument.maximumDepth, "deeper than allowed")
  _ = element.list("item")
  for child in element.children("item") {
    precondition(child.name == "item" && element.text.isEmpty, "text beside children")
    walk(child, depth: depth + 1)
  }
}
