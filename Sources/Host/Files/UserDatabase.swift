package import Base
internal import Glibc

/// `/etc/passwd` and `/etc/group`, read as files: the C library's own lookups would load NSS modules, which a static
/// program must not.
///
/// Every call reads the files again. A file that does not exist is empty; one that cannot be read is an error, for "no
/// such user" means an agent that runs as root.
package struct UserDatabase: Sendable {
  private let files: any FileReader

  private static let users = "/etc/passwd"
  private static let groups = "/etc/group"
  /// A machine with 100,000 users stays below it.
  private static let limit = 16 << 20

  package init(files: any FileReader = LocalFileStore()) { self.files = files }

  /// A user by name, with its primary group; nil if there is none.
  /// - Throws: `FileError`.
  package func owner(named name: String) throws(FileError) -> FileOwner? {
    for fields in try entries(Self.users) where fields.count >= 4 && fields[0] == name {
      guard let user = UInt32(fields[2]), let group = UInt32(fields[3]) else {
        throw FileError(
          "read user \(name) from", Self.users, errno: EINVAL, reason: "user ID or group ID is not a number")
      }
      return FileOwner(user: user, group: group, userName: name, groupName: try groupName(group))
    }
    return nil
  }

  /// The primary group and every group that lists the user.
  /// - Throws: `FileError`.
  func groups(of owner: FileOwner) throws(FileError) -> [UInt32] {
    let listed = try entries(Self.groups).compactMap { fields in
      fields.count >= 4 && fields[3].split(separator: ",").contains(Substring(owner.userName)) ? UInt32(fields[2]) : nil
    }
    return [owner.group] + listed.filter { $0 != owner.group }
  }

  /// For people: the number where no group has it.
  private func groupName(_ number: UInt32) throws(FileError) -> String {
    try entries(Self.groups).first { $0.count >= 3 && UInt32($0[2]) == number }?[0] ?? String(number)
  }

  private func entries(_ path: String) throws(FileError) -> [[String]] {
    let bytes = try files.readIfPresent(path, limit: Self.limit) ?? []
    return String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isNewline).map {
      $0.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
    }
  }
}
