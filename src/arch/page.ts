/** The smallest page of x86, which KVM, the TDX module and the host kernel count in. */
export const PAGE_SHIFT = 12;
/** Bytes. */
export const PAGE_SIZE = 1 << PAGE_SHIFT;
