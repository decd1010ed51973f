import { survival } from './survival.mjs';

survival('PostgreSQL');
