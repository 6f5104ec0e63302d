/** @type {import('next').NextConfig} */
const config = {
  // Pages hold no images: the optimiser and its native library stay out of the way.
  images: { unoptimized: true },
  poweredByHeader: false,
};

export default config;
