export type { ModuleOptions } from "./call.js";
export { TdxModule } from "./module.js";
export type { ModuleProfile } from "./profile.js";
export type { ModuleState } from "./state.js";
