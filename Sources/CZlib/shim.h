#include <string.h>
#include <zlib.h>

// deflateInit2 is a macro, which Swift cannot call. Level 1: logs shrink to a tenth already, at the least CPU time.
// Returns the compressed length, 0 if the room does not suffice or there is no memory.
static inline size_t cb_gzip(const unsigned char *bytes, size_t count, unsigned char *room, size_t size) {
  z_stream stream;
  memset(&stream, 0, sizeof stream);
  // 15 bits of window, and 16 for gzip's frame (zlib.h).
  if (deflateInit2(&stream, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK) return 0;
  stream.next_in = (unsigned char *)bytes;
  stream.avail_in = (unsigned int)count;
  stream.next_out = room;
  stream.avail_out = (unsigned int)size;
  int result = deflate(&stream, Z_FINISH);
  size_t length = stream.total_out;
  deflateEnd(&stream);
  return result == Z_STREAM_END ? length : 0;
}
