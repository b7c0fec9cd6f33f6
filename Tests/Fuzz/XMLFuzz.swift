import Base

@testable import AWS

/// AWS's Query answers: refused, or a tree that can be walked; and an error's body never prevents the error.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>, _ count: Int) -> CInt {
  let bytes = input(data, count)
  _ = AWSError(HTTPResponse(status: 400, body: bytes), service: .ec2, action: "DescribeInstances", attempts: 1)
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
