/** Counters of one vCPU, by KVM's names (kvm-tdx-host 7). There is none for SMIs: they only count as exits. */
export class VcpuStats {
  exits = 0;
  ioExits = 0;
  mmioExits = 0;
  signalExits = 0;
  irqExits = 0;
  haltExits = 0;
  hypercalls = 0;
  nmiInjections = 0;
  reqEvent = 0;
  requestIrqExits = 0;
  hostStateReload = 0;
  pfTaken = 0;
  pfFixed = 0;
  pfSpurious = 0;
  tlbFlush = 0;
  haltWakeup = 0;
}
