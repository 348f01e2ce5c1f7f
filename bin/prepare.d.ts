/** The clone's folder. */
export const root: string;

/** Installs and builds what is missing or stale; ends the process with a message when that cannot be done. */
export function prepare(): void;
