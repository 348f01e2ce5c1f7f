/** Error numbers of Linux (uapi asm-generic errno-base.h and errno.h): what an ioctl of the host gives back, negated. */
export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  E2BIG: 7,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  EINVAL: 22,
  ENOTTY: 25,
  ENOSPC: 28,
  ERANGE: 34,
  ENOSYS: 38,
  EOPNOTSUPP: 95,
  EHWPOISON: 133,
} as const;

const nameOf = new Map<number, string>(Object.entries(ERRNO).map(([name, value]) => [value, name]));

/** The name of an error number, of either sign: "EINVAL"; unknown ones in decimal. */
export function errnoName(value: number): string {
  return nameOf.get(Math.abs(value)) ?? String(Math.abs(value));
}
