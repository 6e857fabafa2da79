#include "seal.h"

#include <cstdint>
#include <stdexcept>

namespace nnpkit {

namespace {

// FIPS 180-4, 4.2.2: fractional parts of the cube roots of the first primes
constexpr uint32_t K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

uint32_t rotated(uint32_t x, int n) {
  return (x >> n) | (x << (32 - n));
}

// FIPS 180-4, 6.2.2
void compress(const unsigned char *block, uint32_t *hash) {
  uint32_t w[64], s[8];
  for (int t = 0; t < 16; t++)
    w[t] = uint32_t{block[4 * t]} << 24 | uint32_t{block[4 * t + 1]} << 16 | uint32_t{block[4 * t + 2]} << 8 |
           uint32_t{block[4 * t + 3]};
  for (int t = 16; t < 64; t++)
    w[t] = w[t - 16] + w[t - 7] + (rotated(w[t - 15], 7) ^ rotated(w[t - 15], 18) ^ (w[t - 15] >> 3)) +
           (rotated(w[t - 2], 17) ^ rotated(w[t - 2], 19) ^ (w[t - 2] >> 10));
  for (int k = 0; k < 8; k++) s[k] = hash[k];
  for (int t = 0; t < 64; t++) {
    const uint32_t t1 = s[7] + (rotated(s[4], 6) ^ rotated(s[4], 11) ^ rotated(s[4], 25)) +
                        ((s[4] & s[5]) ^ (~s[4] & s[6])) + K[t] + w[t];
    const uint32_t t2 = (rotated(s[0], 2) ^ rotated(s[0], 13) ^ rotated(s[0], 22)) +
                        ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
    for (int k = 7; k > 0; k--) s[k] = s[k - 1];
    s[4] += t1;
    s[0] = t1 + t2;
  }
  for (int k = 0; k < 8; k++) hash[k] += s[k];
}

const std::string WORD = "nnpkit-sha256:";
constexpr size_t DIGITS = 64;

}  // namespace

std::string sha256(const char *data, size_t size) {
  uint32_t hash[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  const size_t whole = size / 64 * 64;
  for (size_t at = 0; at < whole; at += 64)
    compress(reinterpret_cast<const unsigned char *>(data) + at, hash);
  std::string rest(data + whole, size - whole);
  rest += '\x80';
  while (rest.size() % 64 != 56) rest += '\0';
  for (int shift = 56; shift >= 0; shift -= 8) rest += static_cast<char>(uint64_t{size} * 8 >> shift);
  for (size_t at = 0; at < rest.size(); at += 64)
    compress(reinterpret_cast<const unsigned char *>(rest.data()) + at, hash);
  std::string digits;
  for (const uint32_t word : hash)
    for (int shift = 28; shift >= 0; shift -= 4) digits += "0123456789abcdef"[word >> shift & 15];
  return digits;
}

void check_seal(const std::string &bytes) {
  const size_t length = WORD.size() + DIGITS;
  if (bytes.compare(0, 3, "nep") == 0)
    throw std::runtime_error(
        "this is a nep.txt of GPUMD, not a model file: make one with nnpkit convert nep.txt model.pt");
  if (bytes.size() < length || bytes.compare(bytes.size() - length, WORD.size(), WORD) != 0)
    throw std::runtime_error(
        "no model file, or a truncated one: it does not end with a checksum; copy or export it again");
  const size_t size = bytes.size() - length;
  if (bytes.compare(bytes.size() - DIGITS, DIGITS, sha256(bytes.data(), size)) != 0)
    throw std::runtime_error(
        "the file is damaged or was altered: its checksum is wrong; copy or export it again");
}

}  // namespace nnpkit
