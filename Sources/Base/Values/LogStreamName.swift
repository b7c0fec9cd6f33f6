/// The part of a log stream's name that stands for its source.
package enum LogStreamName {
  /// `file:/var/log/app.log` is `var/log/app.log`. Stream names take neither `:` nor `*` (API reference,
  /// CreateLogStream).
  package static func part(of source: String) -> String {
    let name = source.hasPrefix("file:/") ? String(source.dropFirst(6)) : source
    return name.replacing(":", with: "-").replacing("*", with: "_")
  }
}
